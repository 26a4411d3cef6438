"""What runs kernels: programs of calls, the threads that share them, and the machine code behind each call."""
