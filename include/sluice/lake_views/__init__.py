"""Read models of the web page Lake and of `sluice quality` and `sluice quarantine`: bounded reads, plain values."""
