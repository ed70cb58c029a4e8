"""The test process's own application and the processes of clients."""
