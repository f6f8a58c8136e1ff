"""What a job is and may become. Pure: values in, values out."""
