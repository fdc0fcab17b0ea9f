"""What figures of several sites say together: pooled estimates, ranks, how sure an order is.

Numbers in, numbers out: nothing here knows a request, a database or a benchmark. `resampling` needs
numpy, which the extra `analysis` brings; nothing else here needs more than Python.
"""
