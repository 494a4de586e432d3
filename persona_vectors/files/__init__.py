"""What lies on disk: whole files, journals, records of what results were made from, tables and rows."""
