"""A whole cluster in one process in virtual time: the real writer, engine, dispatcher and agents on fake hosts and wires."""
