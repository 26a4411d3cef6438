"""placeholder"""
from .direct import Direct, Geometry
class Winograd(Direct): pass
def pays(geometry, x_shape, y_shape): return False
