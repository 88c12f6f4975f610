"""Every figure, in one style: `plots` returns figures, `panels` draws on one pair of axes.

Front doors: plots, panels. Draws what it is given; reads no store."""
