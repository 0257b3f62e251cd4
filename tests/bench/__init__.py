"""How fast the gateway is beside other runtimes, on synthetic engines and real brokers of this machine: see README.md."""
