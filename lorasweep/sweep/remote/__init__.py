"""Workers on other machines, without a shared disk; what is the same for every launcher that has them.

    Member  <-  Line (JSON and bytes over two pipes)  ->  Host, on the worker's machine  ->  today's worker, its child

line.py       calls that are answered, over any pair of pipes; and their server
host.py       the process on the worker's machine: holds one worker, passes its messages on, gives its files out
shipping.py   what travels: inputs by digest, run folders file by file; paths that a host sends are a stranger's
member.py     one such worker as the loop sees it, and the launcher over all of them
handshake.py  what must be the same on both machines
"""
