"""The service: domain, pipeline, backends, storage, jobs, gateways, api and commands."""
