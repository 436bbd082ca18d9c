"""What runs the notebooks: command line, graph, jobs, profiles, pages, report."""
