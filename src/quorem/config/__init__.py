"""Settings: what there is to set, how it is given and read, what may stand in a file of them."""
