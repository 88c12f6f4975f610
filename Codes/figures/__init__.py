"""Every figure, in one style: `plots` returns figures, `panels` draws on one pair of axes.

Front doors: plots, panels, course (of a model that is watched). Draws what it is given; reads no store.
"""
