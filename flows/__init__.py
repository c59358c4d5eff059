"""What is asked: the questionnaire as data and the dialogue as a pure function.

Standard library only; usable alone, in a notebook or a simulation:

    from flows.wave import load_wave
    from flows.engine import Dialled, Replied, step
"""
