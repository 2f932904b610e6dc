"""Ground floor: errors, ids, secrets, log vocabulary and setting types. Imports nothing of ours."""
