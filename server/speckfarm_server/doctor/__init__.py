"""`speckfarm-server doctor`: whether this host can run a farm, and what to do where it cannot.

Each module first finds facts (`find_…`, I/O, changes nothing) and then judges them (`judge_…`,
pure). Nothing here needs the extra [server]: a missing package is something to report.
"""
