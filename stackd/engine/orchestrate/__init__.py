"""Which tasks there should be: slots of replicated services, nodes of global ones."""
