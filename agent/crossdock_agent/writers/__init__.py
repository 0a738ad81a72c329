"""Writers: where documents of the centre go at the site. One file a kind; `base` is the contract."""
