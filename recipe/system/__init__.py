"""What has to do with files, memory and time, and with no network."""
