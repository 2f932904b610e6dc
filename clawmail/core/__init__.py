"""Fourth floor: the use-cases. They join store and net, and raise one family of errors."""
