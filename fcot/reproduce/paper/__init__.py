"""The paper's tables and figures, each run again, with seeds, intervals and the controls that the paper lacks."""
