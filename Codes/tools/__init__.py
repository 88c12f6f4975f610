"""What `make format`, `lint`, `test`, `soak` and `proof` do.

Front doors: stages, stripping, proof, rooms, words."""
