"""The intervention: adding a vector to the residual stream, or taking its direction out."""
