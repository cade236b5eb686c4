"""Tests of speckfarm."""
