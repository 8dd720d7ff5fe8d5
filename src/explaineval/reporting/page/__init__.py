"""The report page: what is said on it (content), how it becomes one HTML file (render), and its template and styles."""
