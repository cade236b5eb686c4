"""`speckfarm-server doctor --board B --prove`: what one board does where nobody has published it.

An experiment says what it sends (trials: configurations and recordings) and judges, purely, what
came out. `bench` sends trials as ordinary jobs, `report` writes down the answers. Experiments have
only been tried on simulated boards, and on a double of the vendor's library in tests.
"""
