"""Values of trees: rationals, numbers of 50 digits, sets of real numbers, matrices."""
