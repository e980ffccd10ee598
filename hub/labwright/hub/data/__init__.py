"""The data service: connections, grants, the catalogue and the query gateway; and the embedded warehouse and lake."""
