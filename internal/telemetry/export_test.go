package telemetry

// Sampler is what the tests see of the environment's sampler.
var Sampler = newSampler
