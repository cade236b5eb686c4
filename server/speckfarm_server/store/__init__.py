"""Everything that outlives the server, in one SQL database. SQL stands nowhere else."""
