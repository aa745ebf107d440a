"""`lorasweep rate`: pictures side by side without names, asked in a browser on this machine.

session   what can be compared, the pair that is asked, answers to it, when it is enough
server    the page, on loopback
"""
