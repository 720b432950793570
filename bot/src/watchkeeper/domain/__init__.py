"""What trading is about: immutable values, Decimal money, no I/O."""
