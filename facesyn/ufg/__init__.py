"""UFG, the generator of unique faces: its sampling loop, over networks of any runtime. Loads torch when imported."""

from facesyn.ufg.sampling import Context, FaceSampler, Networks, Settings, generation_settings

__all__ = ["Context", "FaceSampler", "Networks", "Settings", "generation_settings"]
