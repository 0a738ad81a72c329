"""Exit codes of the controller and its workers that say more than "a problem" (1) or "wrong usage" (2).

A service manager must not restart what ended with one of these: a person decides what comes next.
"""

DAMAGED = 3  # the store is damaged: restore it
TAKEN = 4  # another controller has taken the store over
PRESSING = 5  # of `crossdock fleet risks`: somebody is locked out, or will be soon
