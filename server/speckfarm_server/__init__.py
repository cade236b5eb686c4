"""Server of speckfarm."""
