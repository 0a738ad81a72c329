"""Bringing a revision to sites in waves, held on health; halted and taken back by itself.

`waves` chooses sites, `observe` reads how they are, `gate` judges them, `decide` says the next step (pure), `conductor`
takes it: one transaction a step, so that whoever is killed goes on from the step before.
"""
