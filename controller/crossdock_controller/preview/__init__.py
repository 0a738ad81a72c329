"""Preview on history: what another mapping would make of batches that the intake keeps. It writes nothing."""
