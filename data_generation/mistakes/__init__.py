"""Problems with worked answers that are right, slip once, or follow a wrong method."""
