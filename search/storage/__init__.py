"""Where studies lie: a folder that all nodes share, or S3, which no other room knows of."""
