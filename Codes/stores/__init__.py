"""The tracking store: its address, its soundness before anything uses it, and the way back when it has moved.

Front doors: store, moved, temporary (a store that goes away)."""
