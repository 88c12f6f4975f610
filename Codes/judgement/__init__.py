"""The judgement: how good a run is, against which baseline, which run to take, and how sure that is.

Whatever ranks, recommends or refuses asks here: `validation` scores a run, `scored` is what is kept of it and how two
are compared on the same rows, `verdict` chooses, `board` shows. It may use evaluation, models, data and problem.
"""
