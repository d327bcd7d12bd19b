"""The variational autoencoder in a minute: learn digits, dream, perceive, repair, measure surprise."""

import torch

import reverie
from reverie.core.abilities import dream, morph

run = reverie.fit("digits", "vae", minutes=1)
data, model = run.data(), run.model

print("dreams", dream(model, 16).shape)
x = data.test.x(2)
print("what lies behind two digits", model.encode(x).mean.shape)
print("a walk between them", morph(model, x[:1], x[1:], 9).shape)

observed = torch.ones_like(x, dtype=torch.bool)
observed[..., 4:, :] = False  # the lower half was not seen
print("four completions of each", model.repair(torch.where(observed, x, 0.0), observed, 4).shape)

found = model.surprise(x, draws=1000)
for nats, error in zip(found.value, found.error, strict=True):
    print(f"surprise {nats:.1f} ± {error:.1f} nats ({found.method})")
