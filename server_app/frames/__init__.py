"""The fixed classifier frame: which kind, how it is found, and where its zeros are (FedLoGe, Sec. 3)."""
