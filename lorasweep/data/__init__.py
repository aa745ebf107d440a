"""The images: found in folders, opened upright in RGB, captioned, split, put in order. No torch.

folder           which files are there, with which captions and repeats
images           one file as an RGB image, and the planned crop of it
near_duplicates  which images show the same thing
split            which images are held out for judging
captions         the trigger, and a caption's variations
order            which images meet in which batch
"""
