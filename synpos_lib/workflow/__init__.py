"""The machinery around the notebooks: command line, graph, jobs, profiles, pages, report."""
