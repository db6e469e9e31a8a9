"""VTN beside models of others in time, memory and size; no stage of dvc.yaml uses it, so an edit repeats none."""
