"""Both ends of a call, simulated: a soft phone and a realtime model. Shipped, because users test too."""
