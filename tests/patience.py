"""How long a test waits for a process that should end: a net under a hang, wide enough for a machine that others use
too.
"""

SECONDS = 900  # a process that shares its core with nine others has been seen to need 300
