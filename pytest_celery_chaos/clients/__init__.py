"""Client processes, and the rebinding of the user's own app in the test process."""
