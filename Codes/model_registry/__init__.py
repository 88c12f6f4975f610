"""Versions and aliases: register, pass the gate, promote, take back, and the card that says what a version is.

Front doors: registry, stages, promotion, examination, card, demonstration."""
