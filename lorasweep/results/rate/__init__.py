"""`lorasweep rate`: pictures side by side without names, asked in a browser on this machine.

pairs     what can be compared, and which pair tells most
session   the pair that is asked, answers to it, when it is enough
server    the page, on loopback
"""
