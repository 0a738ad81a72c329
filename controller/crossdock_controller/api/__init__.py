"""The admin API over HTTPS: who calls, how often they may fail, what travels. What may be done is in `operations`."""
