"""Second floor: the frozen values that travel between floors, and the tables of state moves."""
