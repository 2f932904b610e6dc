"""Third floor: PostgreSQL. Named SQL and the values of ``model``; every function takes the connection first."""
